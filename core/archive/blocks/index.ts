/** Big files: only the blocks that differ from the level before are stored. tar leaves these files out. */
export { type AppliedFiles, type ApplyPlan, applyBlocks } from './apply-blocks.js';
export { type BlockTable, emptyTable, StoredTable, TableWriter } from './block-table.js';
export { checkBlocks } from './check-blocks.js';
export { isUnchanged } from './compare-blocks.js';
export { type Drained, type DrainRoom, drain } from './drain.js';
export { openTop } from './files/beneath.js';
export { type BigFile, type FoundBigFiles, findBigFiles, lookForBigFiles, statFiles } from './files/big-files.js';
export { canClone, canCloneWithin } from './files/clones.js';
export { type BlockPlan, type BlockReport, emptyReport, packBlocks } from './pack-blocks.js';
export { hashMs, leastPauseMs } from './pause-time.js';
