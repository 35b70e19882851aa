/** Reads files back that several levels have brought, and compares them with the hash that the last level has of them. */
import { constants, type FileHandle } from 'node:fs/promises';
import { PluginError } from '../../contract/index.js';
import { readWhole } from '../../primitives/whole-bytes.js';
import type { AppliedFiles } from './apply-blocks.js';
import { digestOf, hashBlock } from './block-hash.js';
import { openBeneath } from './files/beneath.js';

/** A larger block would take more memory than a file is hashed in. */
const mostBlock = 1 << 30;

async function hashesOf(file: FileHandle, blockBytes: number, signal: AbortSignal): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(blockBytes);
  const hashes: Buffer[] = [];
  for (let at = 0; ; ) {
    signal.throwIfAborted();
    const block = await readWhole(file, buffer, at);
    if (block.length === 0) return Buffer.concat(hashes);
    hashes.push(hashBlock(block));
    at += block.length;
  }
}

/** @throws PluginError damaged, naming the file */
export async function checkBlocks(top: FileHandle, files: AppliedFiles, name: string, signal: AbortSignal): Promise<void> {
  for (const [path, { digest, blockBytes, isOfSeveral }] of files) {
    if (!isOfSeveral) continue;
    if (blockBytes > mostBlock) throw new PluginError('damaged', `${name} has blocks of ${blockBytes} bytes; choose another run`);
    await using file = await openBeneath(top, path, constants.O_RDONLY);
    if (digestOf(await hashesOf(file, blockBytes, signal)) !== digest)
      throw new PluginError('damaged', `${JSON.stringify(path)} of ${name} is not as it was when it was backed up; choose another run`);
  }
}
