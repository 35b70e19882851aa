/** GNU tar's snapshot files (its manual, "Format of the Incremental Snapshot Files", version 2): a line with tar's version, then
 *  fields that each end with NUL. First the time in seconds and nanoseconds. Then for each folder: whether it is on NFS, its time
 *  in seconds and nanoseconds, device, inode, name, entries, and two empty fields. */
import { readFile, writeFile } from 'node:fs/promises';
import { PluginError } from '../../contract/index.js';

const noDevice = Buffer.from('0\0');

function unusable(): PluginError {
  return new PluginError('damaged', 'the snapshot file of the level before is damaged; a new base is needed');
}

/** Position after the field at `start`. */
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

/** Position after a folder's entries, their empty end field and the folder's end field. */
function entriesEnd(data: Buffer, start: number): number {
  let at = start;
  while (data[at] !== 0) at = fieldEnd(data, at);
  return fieldsEnd(data, at, 2);
}

/** The snapshot with every folder's device set to 0. tar then identifies a folder by name and inode (`--no-check-device`) and
 *  detects no renames: it stores a renamed folder as a new one. tar 1.34 writes chains of renames (a to b while b went to c, as
 *  with rotating folders) in an order that cannot be extracted, and takes a reused inode, as after a restore, for a rename. */
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

/** Copies the snapshot file for the next level. */
export async function copySnapshot(since: string, snapshot: string): Promise<void> {
  await writeFile(snapshot, withoutDevices(await readFile(since)));
}

/** Sets the time with which the next level compares, epoch ms. Sets both fields: tar's own nanoseconds beside other seconds would
 *  move it by up to a second. */
export async function setReference(snapshot: string, reference: number): Promise<void> {
  const data = await readFile(snapshot);
  const start = data.indexOf('\n') + 1;
  const seconds = start === 0 ? -1 : data.indexOf(0, start);
  const end = seconds < 0 ? -1 : data.indexOf(0, seconds + 1);
  if (end < 0) throw new PluginError('failed', 'tar wrote no usable snapshot file for the next level');
  const from = Math.floor(reference);
  const time = Buffer.from(`${Math.floor(from / 1000)}\0${(from % 1000) * 1_000_000}`);
  await writeFile(snapshot, Buffer.concat([data.subarray(0, start), time, data.subarray(end)]));
}
