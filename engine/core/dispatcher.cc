// engine/core/dispatcher
