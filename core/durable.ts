/** A small file that is wholly old or wholly new after a power cut. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes it beside, syncs, renames, and syncs the folder. Mode 0600. */
export async function durableFile(file: string, text: string): Promise<void> {
  {
    await using handle = await open(`${file}.new`, 'w', 0o600);
    await handle.writeFile(text);
    await handle.sync();
  }
  await rename(`${file}.new`, file);
  await syncFolder(dirname(file));
}

/** Takes it away for good; one that is not there is fine. */
export async function durableRemove(file: string): Promise<void> {
  await rm(file, { force: true });
  await syncFolder(dirname(file));
}

/** What was made, renamed or removed in it stays so. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
