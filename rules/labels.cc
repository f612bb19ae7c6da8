#include "rules/labels.h"
