// What a shared library of ours exports; everything else is compiled with hidden visibility.
#pragma once

#define INTAGLIO_API __attribute__((visibility("default")))
#define INTAGLIO_INTERNAL __attribute__((visibility("hidden")))
