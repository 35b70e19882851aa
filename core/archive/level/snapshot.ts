/** GNU tar's snapshot files (its manual, "Format of the Incremental Snapshot Files", version 2): a line that names tar,
 *  then fields that each end with NUL: the time in seconds and nanoseconds, and for each folder whether it is on NFS,
 *  its time in seconds and nanoseconds, device, inode, name, its entries, and two empty fields. */
import { readFile, writeFile } from 'node:fs/promises';
import { PluginError } from '../../contract/index.js';

const noDevice = Buffer.from('0\0');

function unusable(): PluginError {
  return new PluginError('damaged', 'the snapshot file of the level before is not one of GNU tar; a new base is needed');
}

/** Position after the next field. */
function fieldEnd(data: Buffer, start: number): number {
  const end = data.indexOf(0, start);
  if (end < 0) throw unusable();
  return end + 1;
}

function fieldsEnd(data: Buffer, start: number, count: number): number {
  let at = start;
  for (let n = 0; n < count; n++) at = fieldEnd(data, at);
  return at;
}

/** Position after a folder's entries, which end with an empty field, and after the folder's own end. */
function entriesEnd(data: Buffer, start: number): number {
  let at = start;
  while (data[at] !== 0) at = fieldEnd(data, at);
  return fieldsEnd(data, at, 2);
}

/** The snapshot with no folder's device. tar then knows a folder by its name and inode (`--no-check-device`) and no
 *  longer looks for it under another name: a renamed folder is stored as a new one. tar 1.34 writes chains of renames
 *  (a to b while b went to c, as rotating folders do) in an order that cannot be extracted, and takes an inode that is
 *  used again, as after a restore, for a rename. */
export function withoutDevices(data: Buffer): Buffer {
  let at = fieldsEnd(data, data.indexOf('\n') + 1, 2);
  const pieces = [data.subarray(0, at)];
  while (at < data.length) {
    const device = fieldsEnd(data, at, 3);
    const inode = fieldEnd(data, device);
    const end = entriesEnd(data, fieldsEnd(data, inode, 2));
    pieces.push(data.subarray(at, device), noDevice, data.subarray(inode, end));
    at = end;
  }
  return Buffer.concat(pieces);
}

/** Leaves a copy for the next level to go on from. */
export async function copySnapshot(since: string, snapshot: string): Promise<void> {
  await writeFile(snapshot, withoutDevices(await readFile(since)));
}

/** Moves its time to exactly a second before the reference: the kernel stamps ctime with a coarse clock, and what was
 *  written between the sync and tar's start must be seen by the next level. Both fields of the time are written: tar's own
 *  nanoseconds, left beside other seconds, would shrink the second to nothing or make two of it. */
export async function setReference(snapshot: string, reference: number): Promise<void> {
  const data = await readFile(snapshot);
  const start = data.indexOf('\n') + 1;
  const seconds = start === 0 ? -1 : data.indexOf(0, start);
  const end = seconds < 0 ? -1 : data.indexOf(0, seconds + 1);
  if (end < 0) throw new PluginError('failed', 'tar left no usable snapshot file for the next level');
  const from = Math.floor(reference) - 1000;
  const time = Buffer.from(`${Math.floor(from / 1000)}\0${(from % 1000) * 1_000_000}`);
  await writeFile(snapshot, Buffer.concat([data.subarray(0, start), time, data.subarray(end)]));
}
