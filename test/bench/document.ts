/** Writes docs/performance.md. It has seven parts, and a measurement replaces only its own. */
import { readFile, writeFile } from 'node:fs/promises';

/** Lines between the parts. */
const beforeRemote = '<!-- Above: the service beside other tools. Below: remote targets (BENCH_ONLY=remote make bench). -->';
const beforeJobs = '<!-- Below: many jobs (BENCH_ONLY=jobs make bench). -->';
const beforeVersions = '<!-- Below: beside an earlier version (BENCH_ONLY=versions make bench). -->';
const beforeRuns = '<!-- Below: a record of many runs (BENCH_ONLY=runs make bench). -->';
const beforeLive = '<!-- Below: a big file in which little changes (BENCH_ONLY=live make bench). -->';
const beforePauses = '<!-- Below: the pause for a big file (BENCH_ONLY=pauses make bench). -->';

export interface Parts {
  /** The service compared with other tools. */
  readonly service?: string;
  readonly remote?: string;
  /** Times of requests with many jobs. */
  readonly jobs?: string;
  /** The service compared with an earlier version of itself. */
  readonly versions?: string;
  /** Times with a record of many runs. */
  readonly runs?: string;
  /** A big file in which little changes. */
  readonly live?: string;
  /** The pause for a big file, by the file system. */
  readonly pauses?: string;
}

/** Keeps the parts that are not given. */
export async function writeDocument(path: string, parts: Parts): Promise<void> {
  const marks = [beforeRemote, beforeJobs, beforeVersions, beforeRuns, beforeLive, beforePauses];
  const names = ['service', 'remote', 'jobs', 'versions', 'runs', 'live', 'pauses'] as const;
  let rest = await readFile(path, 'utf8').catch(() => '');
  const texts = names.flatMap((name, at) => {
    const mark = marks[at];
    const [text = '', after = ''] = mark === undefined ? [rest] : rest.split(`${mark}\n`);
    rest = after;
    return [parts[name] ?? text, ...(mark === undefined ? [] : [mark])].map((one) => one.trim());
  });
  await writeFile(path, `${texts.join('\n\n').replaceAll('-->\n\n', '-->\n')}\n`);
}
