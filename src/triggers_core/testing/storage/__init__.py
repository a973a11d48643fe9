"""The promises of a storage, one module a theme; `StorageContract` puts them together."""
