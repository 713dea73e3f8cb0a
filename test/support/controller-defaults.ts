// Settings of a controller that tests start from.
export const CONTROLLER_DEFAULTS = {
  mode: 'auto',
  windowSeconds: 60,
  predictor: 'ewma',
  typeCount: 4,
  maxSwitchesPerHour: 12,
  minGainShare: 0.05,
  horizonWindows: 10,
  candidateCount: 6,
} as const;
