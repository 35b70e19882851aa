/** The policy around every target. Plugins contain none of it. */
export { Bandwidth } from './bandwidth.js';
export { briefWaits, longWaits, retry } from './retry.js';
export { stallError } from './stall.js';
export { withBandwidth } from './with-bandwidth.js';
export { withConnections } from './with-connections.js';
export { type Policy, type PolicyTarget, withPolicy } from './with-policy.js';
export { withRetry } from './with-retry.js';
export { withStall } from './with-stall.js';
