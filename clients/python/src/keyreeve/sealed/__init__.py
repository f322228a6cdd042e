"""The sealed message (docs/formats.md, section 4): its bytes, its chunks, its keys. `keyreeve.Sealer` and `Opener` are the way in."""
