"""The OpenCL backends: kernels (.cl), the host code that launches them, and the runtime that they share."""
