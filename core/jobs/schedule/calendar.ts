/** When a job runs next, in the appliance's local time (TZ). Pure: Date's local functions know the zone's rules. */
import { ServiceError } from '../../primitives/service-error.js';
import type { At } from '../job.js';
import type { JobEvent } from './states.js';

const daySeconds = 86_400;
/** Below this `start` counts minutes after 00:00, from it on seconds (the captured answers show that the live server counted minutes). */
const minutesBelow = 1440;
/** Enough days to meet every weekday and every clamped day of a month, whatever day it is now. */
const daysAhead = 64;

interface Day {
  readonly year: number;
  readonly month: number;
  readonly day: number;
}

/** The first run after `after`, both in epoch milliseconds; undefined when there is none (a oneshot that is past). */
export function nextRun(at: At, after: number): number | undefined {
  if (at.repeat === 'oneshot') {
    const start = (at.start ?? 0) * 1000;
    return start > after ? start : undefined;
  }
  const seconds = secondsOfDay(at);
  const today = new Date(after);
  // From yesterday on: a gap over midnight moves a run of yesterday's date into today.
  for (let n = -1; n <= daysAhead; n++) {
    const day = dayOf(today.getFullYear(), today.getMonth(), today.getDate() + n);
    if (!runsOn(at, day)) continue;
    const times = seconds.map((second) => instant(day, second)).filter((time) => time > after);
    if (times.length > 0) return Math.min(...times);
  }
  return undefined;
}

/** A day by its numbers; the arithmetic is done in UTC, where every day exists. */
function dayOf(year: number, month: number, day: number): Day {
  const date = new Date(Date.UTC(year, month, day));
  return { year: date.getUTCFullYear(), month: date.getUTCMonth(), day: date.getUTCDate() };
}

function runsOn({ repeat, days = [] }: At, { year, month, day }: Day): boolean {
  if (repeat === 'daily') return true;
  if (repeat === 'weekly') return days.includes(new Date(Date.UTC(year, month, day)).getUTCDay());
  const last = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return days.some((wanted) => Math.min(wanted, last) === day);
}

function secondsOfDay(at: At): number[] {
  const first = firstSecond(at);
  const times = at.repeat === 'daily' ? (at.times ?? 1) : 1;
  return Array.from({ length: times }, (_, n) => (first + Math.floor((n * daySeconds) / times)) % daySeconds);
}

function firstSecond({ start = 0, time }: At): number {
  if (time !== undefined) {
    const [hours = 0, minutes = 0] = time.split(':').map(Number);
    return hours * 3600 + minutes * 60;
  }
  return start < minutesBelow ? start * 60 : start;
}

/** A local time as an instant: the first one when it happens twice, the first after the gap when it is skipped. */
function instant({ year, month, day }: Day, second: number): number {
  const time = new Date(year, month, day, 0, 0, second);
  const gap = localNumber(time) - Date.UTC(year, month, day, 0, 0, second);
  return gap > 0 ? afterGap(time.getTime(), gap) : time.getTime();
}

/** Local time as if it were UTC, so that two local times can be compared. */
function localNumber(t: Date): number {
  return Date.UTC(t.getFullYear(), t.getMonth(), t.getDate(), t.getHours(), t.getMinutes(), t.getSeconds());
}

/** Date moves a skipped time on by the gap's length; the change of the offset lies at most that far before it. */
function afterGap(time: number, gap: number): number {
  const offset = new Date(time).getTimezoneOffset();
  let before = time - gap;
  let found = time;
  while (found - before > 1000) {
    const middle = before + Math.floor((found - before) / 2000) * 1000;
    if (new Date(middle).getTimezoneOffset() === offset) found = middle;
    else before = middle;
  }
  return found;
}

/** A disabled job has none. */
export function nextOf(at: At | undefined, disable: boolean, now: number): { next_run?: number } {
  const next = at && !disable ? nextRun(at, now) : undefined;
  return next === undefined ? {} : { next_run: next };
}

/** A disabled job has no next run kept, yet may have a future. A missed oneshot still has one that is due. */
export function endingOf(at: At | undefined, kept: number | undefined, now: number): JobEvent {
  if (at === undefined) return 'finish';
  return kept !== undefined || nextRun(at, now) !== undefined ? 'end' : 'finish';
}

/** @throws ServiceError past */
export function refusePast(at: At | undefined, now: number): void {
  if (at && nextRun(at, now) === undefined) throw new ServiceError('past', 'at.start is in the past; give a time to come');
}
