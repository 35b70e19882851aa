/** A time zone in which it is now the hour of the captured conversation, so that the next runs are the same as there. It is never UTC:
 *  in UTC a test could not notice a time that is not local. */
const capturedHour = 17;

function hoursEast(): number {
  const hours = capturedHour - new Date().getUTCHours();
  if (hours === 0) return 1;
  return hours > 14 ? hours - 24 : hours; // time zones end at UTC+14
}

const hours = hoursEast();

export const zone = {
  /** The offset in the TZ format of POSIX, which counts hours to the west. */
  name: `Etc/GMT${hours > 0 ? '-' : '+'}${Math.abs(hours)}`,
  offsetMs: hours * 3_600_000,
} as const;
