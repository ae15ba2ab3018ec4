// Keys and gamepad sticks as pushes in -1 … 1, one for each dimension of the action.

const PAIRS = [["KeyW", "KeyS"], ["KeyA", "KeyD"], ["KeyR", "KeyF"], ["KeyU", "KeyO"], ["KeyI", "KeyK"], ["KeyJ", "KeyL"],
  ["Digit1", "Digit2"], ["Digit3", "Digit4"], ["Digit5", "Digit6"], ["Digit7", "Digit8"], ["Digit9", "Digit0"]];
const GRIPPER_KEY = "Space";
const DEAD_ZONE = 0.12;
const STICKS = [[1, -1], [0, -1], [3, -1], [2, -1]]; // axis and sign: up is forward, left is left

export class Hands {
  constructor(dimensions) {
    this.dimensions = dimensions;
    this.down = new Set();
    this.speed = 0.5;
    this.closed = null; // nobody has touched the gripper
    this.held = false; // what the robot does with it
    this.padButton = false;
    this.gripper = dimensions.findIndex((dimension) => dimension.name.includes("gripper") && !dimension.relative);
    this.steered = dimensions.map((_, i) => i).filter((i) => i !== this.gripper).slice(0, PAIRS.length);
  }

  // The keys of each dimension that has any: {name, keys: [plus, minus] or [toggle]}
  legend() {
    const rows = this.steered.map((dimension, i) => ({ dimension, name: this.dimensions[dimension].name, keys: PAIRS[i] }));
    if (this.gripper >= 0) rows.push({ dimension: this.gripper, name: this.dimensions[this.gripper].name, keys: [GRIPPER_KEY] });
    return rows;
  }

  // Whether the key is one of ours; again: it is only held
  press(code, again = false) {
    if (code === GRIPPER_KEY && this.gripper >= 0) {
      if (!again && !this.down.has(code)) this.closed = !(this.closed ?? this.held);
      this.down.add(code);
      return true;
    }
    const ours = this.steered.some((_, i) => PAIRS[i].includes(code));
    if (ours) this.down.add(code);
    return ours;
  }

  release(code) {
    this.down.delete(code);
  }

  // What the robot was told last
  feel(action) {
    if (this.gripper < 0) return;
    const { low, high } = this.dimensions[this.gripper];
    this.held = action[this.gripper] > (low + high) / 2;
  }

  // The gripper goes on to where it was sent
  keysUp() {
    this.down.clear();
  }

  letGo() {
    this.keysUp();
    this.closed = null;  // whatever moves it meanwhile
  }

  axes() {
    const axes = this.dimensions.map(() => 0);
    this.steered.forEach((dimension, i) => {
      axes[dimension] = (this.down.has(PAIRS[i][0]) - this.down.has(PAIRS[i][1])) * this.speed;
    });
    this.addPad(axes);
    if (this.gripper >= 0 && this.closed !== null) axes[this.gripper] = this.closed ? 1 : -1;
    return axes.map((value) => Math.min(Math.max(value, -1), 1));
  }

  pad() {
    return [...(navigator.getGamepads?.() ?? [])].find((pad) => pad && pad.connected) ?? null;
  }

  addPad(axes) {
    const pad = this.pad();
    if (!pad) return;
    STICKS.forEach(([axis, sign], i) => {
      const value = pad.axes[axis] ?? 0;
      if (i < this.steered.length && Math.abs(value) > DEAD_ZONE) axes[this.steered[i]] += sign * value * this.speed;
    });
    const button = Boolean(pad.buttons[0]?.pressed);
    if (button && !this.padButton && this.gripper >= 0) this.closed = !(this.closed ?? this.held);
    this.padButton = button;
  }
}

export function keyName(code) {
  return code.replace(/^Key|^Digit/, "");
}
