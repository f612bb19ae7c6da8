// sinks/alertmanager
