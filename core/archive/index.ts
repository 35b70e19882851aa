/** The archive format: what lies on a target, how a level is packed and extracted, and how each byte is accounted for.
 *  Knows the contract and the schemas, which parse what lies there. */
export { childOutcome } from './child.js';
export * from './compress.js';
export * from './extract.js';
export * from './file-systems.js';
export * from './flags.js';
export { collectGarbage, withSeen } from './garbage.js';
export { inLanes } from './lanes.js';
export * from './layout.js';
export * from './manifest.js';
export * from './meter.js';
export * from './open-record.js';
export * from './pack.js';
export * from './record.js';
export { writeIndex } from './record-index.js';
export * from './record-runs.js';
export { failuresOf, type RunSummary } from './run-summary.js';
export * from './seal.js';
export * from './verifications.js';
