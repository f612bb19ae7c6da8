#include "rules/alert.h"
