/** The order of firmware versions. All parts but the first are optional:
 *
 *    1.2.3   -rc1   -5-gabcdef   +20260131
 *    core    pre    commits      date build
 *
 *  Parts are compared in this order; the first difference decides:
 *  1. core: numbers between dots, by value; a missing one is 0, so 1.2 = 1.2.0 < 1.2.10. A leading v is ignored.
 *  2. pre: dev < alpha < beta < rc < none, then its number: 1.2.3-rc2 comes before 1.2.3.
 *  3. commits after the tag, as `git describe` counts them; none is 0. The hash has no order and is ignored.
 *  4. date build: 8 digits (a day), 12 or 14 (with the time; also 20260131T0930Z), after `-`, `+`, `.` or `~`; none is the
 *     oldest. A version of only a date is a core of one number: 20260131.
 *  Anything after that (`-dirty`, `+abc`) is ignored. A text of another form is older than any version: only force installs it. */

interface Version {
  readonly core: readonly number[];
  readonly stage: number;
  readonly stageNumber: number;
  readonly commits: number;
  readonly date: number;
}

const form =
  /^v?(?<core>\d{1,15}(?:\.\d{1,7})*)(?:[-~.]?(?<stage>dev|alpha|beta|rc)[.-]?(?<number>\d{0,9}))?(?:-(?<commits>\d{1,9})-g[0-9a-f]+)?(?:[-+.~](?<date>\d{8})(?:T?(?<time>\d{6}|\d{4})Z?)?)?(?:[-+.~][0-9A-Za-z.+~-]*)?$/;
const stages = ['dev', 'alpha', 'beta', 'rc'];

function versionOf(text: string): Version | undefined {
  const parts = form.exec(text.trim())?.groups;
  if (parts === undefined) return undefined;
  return {
    core: (parts.core ?? '').split('.').map(Number),
    stage: parts.stage === undefined ? stages.length : stages.indexOf(parts.stage),
    stageNumber: Number(parts.number ?? 0),
    commits: Number(parts.commits ?? 0),
    date: parts.date === undefined ? 0 : Number(parts.date + (parts.time ?? '').padEnd(6, '0')),
  };
}

/** @returns below 0 when `a` is older than `b`, 0 when neither is */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [versionOf(a), versionOf(b)];
  if (left === undefined || right === undefined) return Number(left !== undefined) - Number(right !== undefined);
  for (let at = 0; at < Math.max(left.core.length, right.core.length); at++) {
    const difference = (left.core[at] ?? 0) - (right.core[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.stage - right.stage || left.stageNumber - right.stageNumber || left.commits - right.commits || left.date - right.date;
}
