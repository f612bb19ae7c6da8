#include "rules/secret.h"
