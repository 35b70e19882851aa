/** How long a container is paused, as measured on two small cores. */

/** Each pause: freeze, tar's start, thaw. */
export const leastPauseMs = 200;

/** Bytes of big files that are read and hashed in a second, from memory. */
const bytesHashedPerSecond = 1.5 * 2 ** 30;

/** To read and hash so many bytes of big files. */
export const hashMs = (bytes: number): number => (bytes / bytesHashedPerSecond) * 1000;
