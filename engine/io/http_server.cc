// engine/io/http_server
