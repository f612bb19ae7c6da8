// sinks/webhook
