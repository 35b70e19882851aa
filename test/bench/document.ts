/** Writes docs/performance.md. It has six parts, and a measurement replaces only its own. */
import { readFile, writeFile } from 'node:fs/promises';

/** Lines between the parts. */
const beforeRemote = '<!-- Above: the service beside other tools. Below: remote targets (BENCH_ONLY=remote make bench). -->';
const beforeJobs = '<!-- Below: many jobs (BENCH_ONLY=jobs make bench). -->';
const beforeVersions = '<!-- Below: beside an earlier version (BENCH_ONLY=versions make bench). -->';
const beforeRuns = '<!-- Below: a record of many runs (BENCH_ONLY=runs make bench). -->';
const beforeLive = '<!-- Below: a big file in which little changes (BENCH_ONLY=live make bench). -->';

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
}

/** Keeps the parts that are not given. */
export async function writeDocument(path: string, parts: Parts): Promise<void> {
  const [service = '', rest = ''] = (await readFile(path, 'utf8').catch(() => '')).split(`${beforeRemote}\n`);
  const [remote = '', others = ''] = rest.split(`${beforeJobs}\n`);
  const [jobs = '', last = ''] = others.split(`${beforeVersions}\n`);
  const [versions = '', end = ''] = last.split(`${beforeRuns}\n`);
  const [runs = '', live = ''] = end.split(`${beforeLive}\n`);
  const kept = { service, remote, jobs, versions, runs, live, ...parts };
  const texts = [
    ...[kept.service, beforeRemote, kept.remote, beforeJobs, kept.jobs],
    ...[beforeVersions, kept.versions, beforeRuns, kept.runs, beforeLive, kept.live],
  ].map((text) => text.trim());
  await writeFile(path, `${texts.join('\n\n').replaceAll('-->\n\n', '-->\n')}\n`);
}
