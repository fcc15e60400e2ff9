#include "math/adamw.h"
namespace fg {}
