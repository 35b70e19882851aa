/** Reads and writes of all bytes that are asked for: one call of the file system may do a part. */
import type { FileHandle } from 'node:fs/promises';

/** @returns the part of the buffer that was filled; shorter only at the file's end */
export async function readWhole(file: FileHandle, buffer: Buffer, position: number): Promise<Buffer> {
  let got = 0;
  while (got < buffer.length) {
    const { bytesRead } = await file.read(buffer, got, buffer.length - got, position + got);
    if (bytesRead === 0) break;
    got += bytesRead;
  }
  return buffer.subarray(0, got);
}

export async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}
