/** Small files that are wholly old or wholly new after a power cut. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file durably: write beside it, fsync, rename, fsync the folder. Mode 0600. */
export async function durableFile(file: string, text: string): Promise<void> {
  {
    await using handle = await open(`${file}.new`, 'w', 0o600);
    await handle.writeFile(text);
    await handle.sync();
  }
  await rename(`${file}.new`, file);
  await syncFolder(dirname(file));
}

/** Removes a file durably. Does nothing when it does not exist. */
export async function durableRemove(file: string): Promise<void> {
  await rm(file, { force: true });
  await syncFolder(dirname(file));
}

/** fsyncs a folder, so that its names survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
