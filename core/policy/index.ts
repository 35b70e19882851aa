/** Policy around targets, the same for all: none of it is plugin code. */
export { Bandwidth } from './bandwidth.js';
export { type Policy, type PolicyTarget, withPolicy } from './governed.js';
export { briefWaits, isRetryable, longWaits, retry } from './retry.js';
