// engine/io/stream_source
