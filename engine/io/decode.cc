// engine/io/decode
