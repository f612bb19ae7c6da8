// engine/cli/check
