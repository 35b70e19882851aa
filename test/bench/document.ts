/** docs/performance.md: two parts, each of which may be written anew by itself. */
import { readFile, writeFile } from 'node:fs/promises';

/** Stands between the parts. */
const marker = '<!-- Above: the service beside other tools. Below: remote targets (BENCH_ONLY=remote make bench). -->';

export interface Parts {
  /** The service beside other tools. */
  readonly service?: string;
  readonly remote?: string;
}

/** A part that is not given stays as it is. */
export async function writeDocument(path: string, parts: Parts): Promise<void> {
  const [service = '', remote = ''] = (await readFile(path, 'utf8').catch(() => '')).split(`${marker}\n`);
  const [first, second] = [parts.service ?? service, parts.remote ?? remote];
  await writeFile(path, `${first.trimEnd()}\n\n${marker}\n${second.trimStart()}`);
}
