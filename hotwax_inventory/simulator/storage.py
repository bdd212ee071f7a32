"""The files beside the API: staged uploads and bulk results, which Shopify keeps in Google's storage."""

import json
import secrets
import uuid
from pathlib import Path
from urllib.parse import quote

from hotwax_inventory.simulator.documents import Answer, Value
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.shop_store import ShopStore

UPLOAD_LIMIT = 104_857_600
KEY_FOLDER = "bulk"


class Storage:
    """Files below one folder, served under `base_url`."""

    def __init__(self, shops: ShopStore, directory: Path) -> None:
        self.base_url = ""
        self._shops = shops
        self._staged = directory / "staged"
        self._results = directory / "bulk"
        self._staged.mkdir(exist_ok=True)
        self._results.mkdir(exist_ok=True)

    def create_targets(self, shop_id: str, arguments: Arguments) -> Answer:
        """`stagedUploadsCreate`: a place and its form fields for each file that is to come."""
        wanted = arguments.get("input")
        targets: list[Value] = []
        errors: list[Value] = []
        for index, one in enumerate(wanted if isinstance(wanted, list) else []):
            if one.get("resource") != "BULK_MUTATION_VARIABLES" or one.get("httpMethod", "PUT") != "POST":
                message = "The simulator takes BULK_MUTATION_VARIABLES by httpMethod POST only"
                errors.append(
                    {"__typename": "UserError", "field": ["input", str(index), "resource"], "message": message}
                )
            else:
                targets.append(self._target(shop_id, str(one.get("filename")), str(one.get("mimeType"))))
        return {"__typename": "StagedUploadsCreatePayload", "stagedTargets": targets, "userErrors": errors}

    def _target(self, shop_id: str, filename: str, mime_type: str) -> Answer:
        ordinal, _ = self._shops.shop(shop_id) or (0, "")
        date = self._shops.now()
        parameters = {
            "Content-Type": mime_type,
            "success_action_status": "201",
            "acl": "private",
            "key": f"tmp/{ordinal}/{KEY_FOLDER}/{uuid.uuid4()}/{filename}",
            "x-goog-date": f"{date:%Y%m%dT%H%M%SZ}",
            "x-goog-credential": f"simulator/{date:%Y%m%d}/auto/storage/goog4_request",
            "x-goog-algorithm": "GOOG4-RSA-SHA256",
            "x-goog-signature": secrets.token_hex(32),
            "policy": secrets.token_urlsafe(32),
        }
        with self._shops.transaction() as db:
            db.execute(
                "insert into staged_upload values (?, ?, ?, ?)",
                [parameters["key"], shop_id, json.dumps(parameters), self._shops.timestamp()],
            )
        url = f"{self.base_url}/staged/{quote(shop_id, safe='')}/"
        listed = [
            {"__typename": "StagedUploadParameter", "name": name, "value": value} for name, value in parameters.items()
        ]
        return {"__typename": "StagedMediaUploadTarget", "url": url, "resourceUrl": url, "parameters": listed}

    def accept(self, parameters: dict[str, str], last_part: str | None, file: Path) -> tuple[str, str] | None:
        """Keep an uploaded file under its key; (code, message) when a parameter or the size is not as agreed."""
        found = self._shops.rows("select parameters from staged_upload where key = ?", [parameters.get("key")])
        if not found:
            return "AccessDenied", "The key was not issued here."
        issued: dict[str, str] = json.loads(found[0][0])
        wrong = sorted(name for name, value in issued.items() if parameters.get(name) != value)
        if wrong:
            return "InvalidPolicyDocument", f"These parameters are missing or changed: {', '.join(wrong)}."
        if last_part != "file":
            return "InvalidArgument", "The file must be the last part of the form, under the name file."
        size = file.stat().st_size
        if size < 1:
            return "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size."
        if size > UPLOAD_LIMIT:
            return "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size."
        file.replace(self._staged_path(issued["key"]))
        return None

    def staged_file(self, shop_id: str, key: str) -> Path | None:
        """Where the file of a key lies, or will lie; None when the key was not issued to that shop."""
        if not self._shops.rows("select 1 from staged_upload where key = ? and shop_id = ?", [key, shop_id]):
            return None
        return self._staged_path(key)

    def incoming(self) -> Path:
        """A new name for a file that is being uploaded."""
        return self._staged / f"{uuid.uuid4()}.incoming"

    def _staged_path(self, key: str) -> Path:
        return self._staged / key.split("/")[3]

    def result_file(self, number: int, token: str) -> Path:
        """Where an operation's result lies."""
        return self._results / f"{number}-{token}.jsonl"

    def result_url(self, number: int, token: str) -> str:
        """Where a client fetches it."""
        return f"{self.base_url}/results/{number}/{token}.jsonl"
