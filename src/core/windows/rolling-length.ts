/** Shortest and longest rolling window, in milliseconds. Any whole number of milliseconds between them is exact (windows.ts). */
export const ROLLING_LENGTH_MS_MIN = 1_000;
export const ROLLING_LENGTH_MS_MAX = 366 * 86_400_000;
