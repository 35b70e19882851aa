/** A small file that is wholly old or wholly new after a power cut. */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes it beside, syncs, renames, and syncs the folder. Mode 0600. */
export async function durableFile(file: string, text: string): Promise<void> {
  {
    await using handle = await open(`${file}.new`, 'w', 0o600);
    await handle.writeFile(text);
    await handle.sync();
  }
  await rename(`${file}.new`, file);
  await using folder = await open(dirname(file), 'r');
  await folder.sync();
}
