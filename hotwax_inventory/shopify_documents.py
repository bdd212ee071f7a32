"""Every GraphQL document that is sent to Shopify, API version 2026-10. The tests hold each against the official schema."""

# Shape A of the Shopify reference 4.1: `item { id }` in the level makes line order and `__parentId` unimportant.
ALL_LEVELS = """
{
  inventoryItems {
    edges { node {
      id sku tracked
      inventoryLevels {
        edges { node {
          id updatedAt
          item { id }
          location { id isActive }
          quantities(names: ["available", "on_hand"]) { name quantity }
        } }
      }
    } }
  }
}
"""

RUN_QUERY = """
mutation RunQuery($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) {
    bulkOperation { id status createdAt }
    userErrors { code field message }
  }
}
"""

RUN_MUTATION = """
mutation RunMutation($mutation: String!, $path: String!) {
  bulkOperationRunMutation(mutation: $mutation, stagedUploadPath: $path) {
    bulkOperation { id status createdAt }
    userErrors { code field message }
  }
}
"""

OPERATION = """
query Operation($id: ID!) {
  bulkOperation(id: $id) {
    id status errorCode createdAt completedAt objectCount fileSize url partialDataUrl
  }
}
"""

BULK_MUTATIONS = """
query BulkMutations($query: String!) {
  bulkOperations(first: 100, sortKey: CREATED_AT, reverse: true, query: $query) {
    nodes { id createdAt query }
  }
}
"""

SCOPES = """
query Scopes {
  currentAppInstallation { accessScopes { handle } }
}
"""

STAGE = """
mutation Stage($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) {
    stagedTargets { url resourceUrl parameters { name value } }
    userErrors { field message }
  }
}
"""

# `code` may be null in a live refusal (Shopify reference, fact 4), so the message is asked for too.
ADJUST = """
mutation InventoryAdjust($input: InventoryAdjustQuantitiesInput!, $idempotencyKey: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $idempotencyKey) {
    inventoryAdjustmentGroup { id }
    userErrors { code field message }
  }
}
"""

READ_LEVELS = """
query ReadLevels($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on InventoryLevel {
      id isActive
      item { id tracked }
      location { id isActive }
      quantities(names: ["available"]) { name quantity }
    }
  }
}
"""

SUBSCRIPTIONS = """
query Subscriptions($topics: [WebhookSubscriptionTopic!]) {
  webhookSubscriptions(first: 250, topics: $topics) {
    nodes { id uri }
  }
}
"""

SUBSCRIBE = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $subscription: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $subscription) {
    webhookSubscription { id uri }
    userErrors { field message }
  }
}
"""

UNSUBSCRIBE = """
mutation Unsubscribe($id: ID!) {
  webhookSubscriptionDelete(id: $id) {
    deletedWebhookSubscriptionId
    userErrors { field message }
  }
}
"""

DOCUMENTS = {
    "ALL_LEVELS": ALL_LEVELS,
    "RUN_QUERY": RUN_QUERY,
    "RUN_MUTATION": RUN_MUTATION,
    "OPERATION": OPERATION,
    "BULK_MUTATIONS": BULK_MUTATIONS,
    "SCOPES": SCOPES,
    "STAGE": STAGE,
    "ADJUST": ADJUST,
    "READ_LEVELS": READ_LEVELS,
    "SUBSCRIPTIONS": SUBSCRIPTIONS,
    "SUBSCRIBE": SUBSCRIBE,
    "UNSUBSCRIBE": UNSUBSCRIBE,
}
