/** Whether each block of a bundle is the one that was signed.
 *
 *  RAUC checks the signature over the manifest, which holds the root of a dm-verity hash tree, and leaves the blocks to the
 *  kernel, which looks at each as it is read: a flipped bit shows only after the target slot has been half written. So the
 *  tree is computed here before an install. Ways that were measured on RAUC 1.8, none of which needs a device mapper:
 *  - `rauc info`: the signature only; a flipped block passes.
 *  - `rauc extract`: checks all blocks, then writes the whole content out: twice the room, and squashfs-tools in the image.
 *  - `veritysetup verify`: another package, and a loop device for each file.
 *  - this: SHA-256 over each block of 4096, at the speed of the disk, 3.5 MiB of memory for a bundle of 450 MiB. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { aborted, UpdateError } from './errors.js';

const block = 4096;
const digest = 32;
const perBlock = block / digest;
const piece = 1 << 20;

export interface Verity {
  /** Root of the tree, hexadecimal, from the signed manifest. */
  readonly hash: string;
  readonly salt: string;
  /** Bytes of the tree, at the end of the payload. */
  readonly size: number;
}
export interface CheckOptions {
  readonly signal: AbortSignal;
  /** 0–100 */
  progress(percent: number): void;
}

const damaged = (why: string) => new UpdateError('damaged_bundle', `the bundle is damaged: ${why}; get it again`);

/** Where the payload ends, and the signature behind it. */
export async function signatureOf(file: FileHandle): Promise<{ readonly end: number; readonly signature: Buffer }> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(8);
  if (size > 8) await file.read(tail, 0, 8, size - 8);
  const length = Number(tail.readBigUInt64BE());
  const end = size - 8 - length;
  // RAUC itself takes at most 64 KiB.
  if (length === 0 || length > 65_536 || end <= 0 || end % block !== 0) throw damaged('it does not end as a bundle does');
  const signature = Buffer.alloc(length);
  await file.read(signature, 0, length, end);
  return { end, signature };
}

/** One digest a block, each level padded with zeros to whole blocks. */
function levelOf(blocks: Buffer, salt: Buffer): Buffer {
  const count = blocks.length / block;
  const level = Buffer.alloc(Math.ceil(count / perBlock) * block);
  for (let at = 0; at < count; at++) {
    const one = createHash('sha256')
      .update(salt)
      .update(blocks.subarray(at * block, (at + 1) * block));
    one.digest().copy(level, at * digest);
  }
  return level;
}

async function leaves(file: FileHandle, end: number, salt: Buffer, { signal, progress }: CheckOptions): Promise<Buffer> {
  const count = end / block;
  const level = Buffer.alloc(Math.ceil(count / perBlock) * block);
  const buffer = Buffer.alloc(piece);
  for (let at = 0; at < end; at += piece) {
    if (signal.aborted) throw aborted();
    const length = Math.min(piece, end - at);
    const { bytesRead } = await file.read(buffer, 0, length, at);
    if (bytesRead !== length) throw damaged('it ends too early');
    levelOf(buffer.subarray(0, length), salt).copy(level, (at / block) * digest, 0, (length / block) * digest);
    progress(Math.floor((at / end) * 100));
  }
  return level;
}

/** @throws UpdateError damaged_bundle, aborted */
export async function checkPayload(path: string, verity: Verity, options: CheckOptions): Promise<void> {
  await using file = await open(path, 'r');
  const { end } = await signatureOf(file);
  const data = end - verity.size;
  if (verity.size < block || verity.size % block !== 0 || data < block) throw damaged('its hash tree has no place in it');
  const salt = Buffer.from(verity.salt, 'hex');
  let level = await leaves(file, data, salt, options);
  const levels = [level];
  while (level.length > block) {
    level = levelOf(level, salt);
    levels.unshift(level); // the file has the top first
  }
  const root = levelOf(level, salt).subarray(0, digest).toString('hex');
  if (root !== verity.hash) throw damaged('a block is not what was signed');
  // The kernel reads the tree that is in the file, not this one.
  const tree = Buffer.concat(levels);
  const kept = Buffer.alloc(verity.size);
  await file.read(kept, 0, verity.size, data);
  if (!tree.equals(kept)) throw damaged('its hash tree is not what was signed');
}
