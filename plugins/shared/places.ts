import { readdir } from 'node:fs/promises';

/** Whether something is there that a restore must not write into; an empty folder is free, a file is not. */
export async function isTaken(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length > 0;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT');
  }
}
