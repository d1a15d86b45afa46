// Compiled for its precompiled headers: see MusterPrecompiled.cmake.
