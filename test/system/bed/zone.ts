/** A time zone in which it is now the hour of the captured conversation, so that its next runs are the same. Never UTC, where a
 *  time that is not local would pass unseen. */
const capturedHour = 17;

function hoursEast(): number {
  const hours = capturedHour - new Date().getUTCHours();
  if (hours === 0) return 1;
  return hours > 14 ? hours - 24 : hours; // the east ends at 14
}

const hours = hoursEast();

export const zone = {
  /** POSIX counts westwards. */
  name: `Etc/GMT${hours > 0 ? '-' : '+'}${Math.abs(hours)}`,
  offsetMs: hours * 3_600_000,
} as const;
