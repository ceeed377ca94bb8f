import type { Rooms } from '../front/room.ts';
import type { Admission } from './admission.ts';

/** The walls between clients, for answers that need no decision. */
export function roomsOf(admission: Admission): Rooms {
  return {
    mayAnswer: (socket) => admission.hasRoom(socket, 0),
    begin(socket, bytes) {
      if (!admission.hasRoom(socket, bytes)) return undefined;
      const ticket = admission.begin(socket);
      ticket.charge(bytes);
      return ticket;
    },
    addressOf: (socket) => admission.addressOf(socket),
  };
}
