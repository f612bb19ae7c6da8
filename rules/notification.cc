#include "rules/notification.h"
