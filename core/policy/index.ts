/** Policy around targets, the same for all: none of it is plugin code. */
export { Bandwidth } from './bandwidth.js';
export { type Governed, governed, type Policy } from './governed.js';
export { briefWaits, isRetryable, longWaits, retried } from './retry.js';
