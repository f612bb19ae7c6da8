#include "rules/redact.h"
