/** The archive format: what lies on a target, how a level is packed and extracted, and how each byte is accounted for.
 *  Knows the contract and the schemas, which parse what lies there. */
export { childOutcome } from '../primitives/child.js';
export { inLanes } from '../primitives/lanes.js';
export * from './level/compress.js';
export * from './level/extract.js';
export * from './level/file-systems.js';
export * from './level/flags.js';
export * from './level/meter.js';
export * from './level/pack.js';
export { collectGarbage, withSeen } from './record/garbage.js';
export * from './record/layout.js';
export * from './record/manifest.js';
export * from './record/open-record.js';
export * from './record/record.js';
export { writeIndex } from './record/record-index.js';
export * from './record/record-runs.js';
export { failuresOf, type RunSummary } from './record/run-summary.js';
export * from './record/seal.js';
export * from './record/verifications.js';
