"""The messages of the service, made from `proto/keyreeve/v1/*.proto` when the package is built."""
