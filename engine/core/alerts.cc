// engine/core/alerts
