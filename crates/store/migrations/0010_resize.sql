-- How a resize or a cold migration ended for its owner: 'confirmed' or 'reverted'; NULL while he decides, and for other moves.
ALTER TABLE migrations ADD COLUMN verdict TEXT;
