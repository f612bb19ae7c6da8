// engine/io/source
