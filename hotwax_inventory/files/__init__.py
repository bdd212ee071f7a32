"""Stage 1: files on SFTP become landed, registered files, each exactly once."""
