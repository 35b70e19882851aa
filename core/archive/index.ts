/** The archive format: names on a target, packing and extracting a level, and a hash over each stored byte. Imports the contract
 *  and the schemas, which parse what lies on a target. */
export { childOutcome } from '../primitives/child.js';
export { inLanes } from '../primitives/lanes.js';
export * from './blocks/index.js';
export * from './level/compress.js';
export * from './level/extract.js';
export * from './level/file-systems.js';
export type { KnownFlags } from './level/flag-search.js';
export { findMoved } from './level/flag-status.js';
export * from './level/flags.js';
export * from './level/meter.js';
export { addMoved, type DatabaseKind, databasesFirst, type MovedFile, type MovedFiles, showPath } from './level/moved.js';
export * from './level/pack.js';
export { heldElsewhere } from './level/sandbox.js';
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
