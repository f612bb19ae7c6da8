#include "rules/timestamp.h"
