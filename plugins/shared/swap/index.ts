/** How a restore replaces files: one journal and one swap for every engine. A draft fills folders beside the live ones. The
 *  journal names each step before it is taken, and every step can be reverted. */
export { isForbidden, keepTime, lockPath, unlockPath, withoutLocks } from './attributes.js';
export { removeHeld } from './carry.js';
export * from './earlier.js';
export * from './journal.js';
export * from './place.js';
export * from './swap.js';
export * from './swaps.js';
