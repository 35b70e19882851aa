/** How a restore takes the place of what is there: one journal and one swap for every engine. A draft fills folders beside what is
 *  live, the journal tells each step before it is done, and from any step there is a way back. */
export { isForbidden, keepTime, lockPath, unlockPath, withoutLocks } from './attributes.js';
export { removeHeld } from './carry.js';
export * from './earlier.js';
export * from './journal.js';
export * from './place.js';
export * from './swap.js';
export * from './swaps.js';
