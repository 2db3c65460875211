"""Report of a run or a sweep as one HTML file."""
